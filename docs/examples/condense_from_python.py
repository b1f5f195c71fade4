"""Condense digits from Python and train on the result: cells for a notebook, or a script."""

# %% [markdown]
# # Condense a data set from Python
#
# Condenses scikit-learn's digits to one image per class, shows the images' size and the accuracies,
# and trains a network on the result. Editors that know `# %%` cells run this file as a notebook;
# `python condense_from_python.py` runs it as a script. About ten seconds on a laptop CPU.

# %%
import torch

import dcond
from dcond.data import Digits

# %% [markdown]
# ## Condense
# `overrides` takes any setting of the command line. Remove it for the method's default settings.

# %%
run = dcond.condense(
    method="m3d",
    dataset="digits",
    ipc=1,
    seed=0,
    overrides=["method.steps=20", "pool=tiny", "evaluation.epochs=20", "evaluation.repeats=2"],
)
print(run)

# %% [markdown]
# ## The condensed set
# Images are float32 in [0, 1]; `dataset()` decodes and normalises them.

# %%
print("stored:", tuple(run.synthetic.images.shape))
images, labels = run.synthetic.dataset().tensors
print("to train on:", tuple(images.shape), tuple(labels.shape))

# %% [markdown]
# ## Train a network of your own

# %%
torch.manual_seed(0)
network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(images[0].numel(), 10))
optimiser = torch.optim.SGD(network.parameters(), lr=0.05)
for _ in range(100):
    loss = torch.nn.functional.cross_entropy(network(images), labels)
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
print(f"training loss {loss.item():.3f}")

# %% [markdown]
# ## Test it on real images

# %%
real = Digits().load()
pixels = real.test.images.float() / 255
predicted = network(run.synthetic.spec.normalise(pixels)).argmax(1)
print(f"test accuracy {100 * (predicted == real.test.labels).float().mean():.1f} %")
