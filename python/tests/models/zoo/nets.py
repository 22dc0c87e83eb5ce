"""PyTorch modules and classes of the tests of large frameworks."""

import torch
from sluice import model_handler


class Fixed(torch.nn.Module):
    """Made again without arguments, so that its state is enough."""

    def __init__(self):
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.ReLU(), torch.nn.Dropout(0.5), torch.nn.Linear(8, 1))

    def forward(self, x):
        return self.layers(x)


class Sized(torch.nn.Module):
    """Its size is an argument: the state alone does not make it again."""

    def __init__(self, width):
        super().__init__()
        self.first = torch.nn.Linear(2, width)
        self.last = torch.nn.Linear(width, 3)

    def forward(self, x):
        return torch.softmax(self.last(torch.relu(self.first(x))), dim=-1)


class Pythonic(Sized):
    """Neither exported nor scripted: its path depends on values, and on Python."""

    def forward(self, x):
        names = {f"{row}": row for row in range(int(x.sum().item()) % 2 + 1)}
        return super().forward(x) * len(names) / len(names)


@model_handler
class Net:
    def predict(self, df):
        with torch.inference_mode():
            x = torch.from_numpy(df.to_numpy()).float()
            return {"y": self.model(x)[:, 0].numpy()}
