"""Work of an operator on a part of the chip: cycles, bytes, action counts, energy, and the closed-form bound."""
