"""Generators: U-Net, encoder-decoder, ResNet, and a U-Net around timm's networks."""
