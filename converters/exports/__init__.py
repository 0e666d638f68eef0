"""The firmware's library and a model as a folder that an ecosystem takes as its own.

`exporter` makes the folder: sources of the library (`converters.firmware.sources`), and files from
the templates beside this code, of which `ecosystems` says which goes where.
"""
