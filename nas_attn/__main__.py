"""`python -m nas_attn`: the command line."""

from nas_attn.cli.main import program

if __name__ == "__main__":
    program()
