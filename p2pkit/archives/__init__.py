"""Archives of data sets: downloading them, and unpacking them safely."""
