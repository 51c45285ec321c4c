"""What connects cachalot to other packages, each in a module that imports it."""
