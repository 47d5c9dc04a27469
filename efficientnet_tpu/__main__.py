"""The entry point of main.py, of the console script and of `python -m efficientnet_tpu`."""

import sys


def main() -> None:
    """Runs the program. Says what to install where a package is missing."""
    from efficientnet_tpu import installation

    try:
        from efficientnet_tpu import cli
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("efficientnet_tpu"):
            raise
        print(f"error: {installation.missing_package_text(error.name or 'absl')}", file=sys.stderr)
        sys.exit(2)
    except ImportError as error:  # a package that is there, for another NumPy say
        from efficientnet_tpu.texts import known_errors

        shown = known_errors.explained(error)
        if shown is None:
            raise
        print(f"error: {shown}", file=sys.stderr)
        sys.exit(shown.exit_status)
    cli.run()


if __name__ == "__main__":
    main()
