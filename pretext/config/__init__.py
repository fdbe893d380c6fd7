"""The settings: all public, in sections, made from layers."""
