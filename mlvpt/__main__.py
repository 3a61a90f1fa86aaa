"""`python -m mlvpt`, which torchrun and `accelerate launch -m` need."""

import sys

from mlvpt.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
