"""FreD: find the public set of texts that is nearest to the private ones, by one release. Begin with `recommend`."""
