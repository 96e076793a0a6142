"""`python -m lora_cli` does what the `loracli` command does."""

from lora_cli.cli import main

if __name__ == "__main__":
    main()
