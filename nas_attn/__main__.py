"""`python -m nas_attn`: the command line."""

from nas_attn.cli.main import main

if __name__ == "__main__":
    main()
