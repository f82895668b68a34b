"""Frozen, read-only views of API objects: what our code reads of them, under the API's own field names.

A view is decoded straight from the bytes, one a revision, and shared by everybody; it holds what the code reads and ignores the rest, so
it is never written back (changes go out as patches or as new objects). Collections are tuples and read-only mappings.
"""
