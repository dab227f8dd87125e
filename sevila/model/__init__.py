"""The model of the paper (Yu et al., NeurIPS 2023, arXiv 2305.06988): a frozen BLIP-2 and the two heads over it.

To be read in this order:
backbone    the frozen image-language model: vision tower, T5, tokenizer
tower       the vision tower by itself
language    how T5 is run, how an option letter is read from it, how rows share a pass
head        what is trained: layer norm, Q-Former, queries, one linear layer
sevila      Localizer and Answerer over one backbone: `localize`, `answer`
prompts     every text that they are asked
pixels      uint8 pictures, normalised
records     what goes in and what comes out
device      what stays on a GPU, and what the host reads of it, once a call
precision, digest, torchvision_check   half precision, fingerprints of weights, a look at what is installed

Nothing here knows a data set or a file format. Shapes in docstrings:
B   videos of a batch                N    rows of a pass, whatever they are
T   sampled frames of a video        S    side of a picture, in pixels
K   keyframes                        P    patches of a frame, the tower's CLS token first
M   questions about a video          Q    queries of a head: soft tokens of a frame
A   options of a question            L    tokens of the language model's input, texts and frames
V   its vocabulary                   Dv, Dl   widths of vision tower and language model
"""
