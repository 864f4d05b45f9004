"""What the images are made of, told by the images themselves."""
