"""Generators: U-Net, encoder-decoder and ResNet."""
