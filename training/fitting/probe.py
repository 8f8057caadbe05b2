"""The linear probe measures how well a linear classifier predicts labels from features that were learnt without labels.

The usual measure of self-supervised pretraining (Chen et al. 2020, section 2.3; Zhang et al. 2016).
"""

import math

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from handlers.arrays import Float32
from handlers.decode import to_batch
from handlers.networks import Classifier
from handlers.spec import Preprocessing
from training.fitting.batches import Images

BATCH = 256
ITERATIONS = 2000


@torch.no_grad()
def pooled_features(network: Classifier, images: Images, preprocessing: Preprocessing) -> Float32:
    """Compute the means of the network's feature maps, (N, C) float32, in evaluation mode."""
    training = network.training
    network.eval()
    parts = []
    for rows in np.array_split(images.rows, math.ceil(len(images) / BATCH)):
        batch = torch.from_numpy(to_batch(list(images.pixels[rows]), preprocessing))  # (B, 3, H, W)
        maps = network.features(batch.contiguous(memory_format=torch.channels_last))  # (B, C, h, w)
        parts.append(maps.mean(dim=(2, 3)).numpy())
    network.train(training)
    return np.concatenate(parts)


def linear_probe(network: Classifier, train: Images, val: Images, preprocessing: Preprocessing) -> float:
    """Return the accuracy on `val` of a logistic regression (L2, C = 1) on `train`'s frozen, standardised features."""
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=ITERATIONS))
    classifier.fit(pooled_features(network, train, preprocessing), train.labels)
    return float(classifier.score(pooled_features(network, val, preprocessing), val.labels))
