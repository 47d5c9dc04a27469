"""A file system that shows what a machine with a TPU shows."""

GOOGLE = "0x1ae0"


def machine(root, *chips, vendor=GOOGLE, devices=()):
    """Writes PCI devices of a vendor, by their numbers, and device files below `root`, a pathlib.Path; returns it."""
    for index, device in enumerate(chips):
        describe(root / f"sys/bus/pci/devices/0000:00:0{index}.0", vendor, device)
    for device in devices:
        path = root / "dev" / device
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return str(root)


def describe(folder, vendor, device):
    """Writes a folder of sysfs."""
    folder.mkdir(parents=True)
    (folder / "vendor").write_text(f"{vendor}\n")
    (folder / "device").write_text(f"{device}\n")
