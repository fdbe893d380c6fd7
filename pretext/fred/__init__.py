"""FreD: which public set of texts is nearest to the private ones, told by one release. Begin with `procedure`."""
