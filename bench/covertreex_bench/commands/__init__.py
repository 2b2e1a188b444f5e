"""Commands of ``covertreex`` that measure; it finds them by the entry points `covertreex.commands`."""
