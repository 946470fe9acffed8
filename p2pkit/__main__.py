"""``python -m p2pkit``, which ``accelerate launch -m p2pkit`` runs on every process."""

from p2pkit.cli import main

main()
