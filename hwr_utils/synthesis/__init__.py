"""Handwriting that the project draws itself."""
from hwr_utils.synthesis.drawing import *
from hwr_utils.synthesis import drawing
import numpy as np
def draw(name, n, seed, split="train"):
    labels=labels_of(name, -(-n//BATCH)*BATCH, seed, split)
    images=[draw_batch(name, labels[k*BATCH:(k+1)*BATCH], seed, split, k) for k in range(-(-n//BATCH))]
    return np.concatenate(images)[:n], labels[:n]
