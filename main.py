"""Flags -> Config -> COMMANDS[command](config): see efficientnet_tpu/cli.py."""

from efficientnet_tpu.__main__ import main

if __name__ == "__main__":
    main()
