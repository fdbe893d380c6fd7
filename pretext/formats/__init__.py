"""The formats of data files, read record by record."""
