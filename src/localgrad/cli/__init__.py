"""The command line, on localgrad's public names alone."""
