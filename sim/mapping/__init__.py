"""Graph + Chip -> Program: partition over cores, tile search, allocation and lowering."""
