"""The perceptual test of the pix2pix paper: people are shown real and generated images, and say which are fake."""
