"""From files to a backbone or a head, and back.

state_dict     tensors from files, or from the Hub, without running code; the strict comparison that every loader makes
architecture   a BLIP-2's sizes and tokenizer, and the empty model of these sizes
blip2_folder   a BLIP-2 in transformers' format
heads          a trained head: its two files, how it is found, and how it is given away
lavis          LAVIS's names for the same tensors: the released SeViLA, BLIP-2 and EVA's vision tower
timm           timm's EVA in the place of the vision tower
backbone       all of the frozen model, loaded
conversion     other projects' files to heads and a backbone folder (`sevila convert`)

Each imports those above it. Wherever tensors are called a state or go by name, they are of any shape.
"""

from sevila.model import torchvision_check  # noqa: F401  before anything here imports transformers
