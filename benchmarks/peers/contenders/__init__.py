"""The contenders, each in a module or folder of its own, in the order in which they take turns."""
