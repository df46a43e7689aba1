"""`python -m tsllm` is the command line."""

from tsllm.cli.main import app

if __name__ == "__main__":
    app()
