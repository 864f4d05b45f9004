"""The archive's grammar and its reading side: layout, index, columns, gaps, manifest, reader.

Only the archiver writes what these modules describe; verification, the manifest API and programs read it here.
"""
