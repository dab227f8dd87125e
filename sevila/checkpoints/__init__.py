"""From files to a backbone or a head, and back: the Hub, LAVIS's files, the released SeViLA, trained heads, timm."""

from sevila.model import torchvision_check  # noqa: F401  before anything here imports transformers
