"""Flags -> Config -> COMMANDS[command](config): see efficientnet_tpu/cli.py."""

from efficientnet_tpu.cli import run

if __name__ == "__main__":
    run()
