"""The command line, one module per noun. Heavy imports happen inside the commands."""
