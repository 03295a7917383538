"""How wrong the simulator is: its predictions beside measured chips, and beside a fitted roofline."""
