"""What a rendered project is made of."""
