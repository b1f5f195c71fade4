"""Every network of the tiny pool fits 100 real digits at its own learning rate."""

import pytest
import torch
import torch.nn.functional as F
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from sklearn.datasets import load_digits

from dcond.paths import conf_dir


@pytest.mark.slow
@pytest.mark.parametrize("network", ["ConvNet", "MLP", "ResNet", "ViT"])
def test_tiny_pool_fits_a_hundred_digits(network, make_spec):
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        recipe = instantiate(compose(overrides=["+pool=tiny"]).pool).networks[network]
    images, labels = load_digits(return_X_y=True)
    x = torch.tensor(images[:100], dtype=torch.float32).view(-1, 1, 8, 8) / 16
    x, y = (x - x.mean()) / x.std(), torch.tensor(labels[:100])
    rng = torch.Generator().manual_seed(0)
    model = recipe.build(make_spec(1, 8), rng)
    optimiser = torch.optim.SGD(model.parameters(), recipe.lr, momentum=0.9, weight_decay=5e-4)
    for _ in range(300):
        rows = torch.randperm(100, generator=rng)[:50]
        optimiser.zero_grad()
        F.cross_entropy(model(x[rows]), y[rows]).backward()
        optimiser.step()
    assert (model.eval()(x).argmax(1) == y).float().mean() > 0.9
