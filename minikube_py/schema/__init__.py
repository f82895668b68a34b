"""What is known of the types of the API: the built-in kinds' definitions, compiled for decoding, patching and managedFields.

Bytes are parsed by `decode` (JSON, YAML), brought into the shape of their type by `definitions.Schema.normalize`, changed by `merge`
(strategic merge patch) and recorded by `fields` (managedFields); `openapi` tells clients about it all. Nothing here does input or output
beyond reading the package's own data, and nothing knows of a clock.
"""
