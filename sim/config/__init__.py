"""YAML files to validated dataclasses: positions, inheritance, units, resources."""

from sim.config.document import Document, Position, document_from_data, load_yaml
from sim.config.model import (
    Field,
    FieldSpec,
    Part,
    Unit,
    dump,
    field_adapter,
    field_specs,
    json_schema,
    known_keys,
    validate,
)
from sim.config.resources import changed_ns, data_dir, data_file, find_resource, is_path, list_resources

__all__ = [
    "Document",
    "Field",
    "FieldSpec",
    "Part",
    "Position",
    "Unit",
    "changed_ns",
    "data_dir",
    "data_file",
    "document_from_data",
    "dump",
    "field_adapter",
    "field_specs",
    "find_resource",
    "is_path",
    "json_schema",
    "known_keys",
    "list_resources",
    "load_yaml",
    "validate",
]
