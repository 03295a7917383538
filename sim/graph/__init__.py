"""What the model is: tensors, operators and the graph that joins them."""
