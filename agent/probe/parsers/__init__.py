"""Plain text in, plain values out. A parser touches nothing and never raises: what is not understood is absent."""
