"""What a chip is: one file per part, each with its closed law."""
