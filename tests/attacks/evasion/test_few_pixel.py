"""The few-pixel attack: what candidates and children are, and how near it comes to the best pixel there is."""

import pytest
import torch
from torch import Tensor, nn

from securegan.attacks.evasion.black_box import Streams
from securegan.attacks.evasion.few_pixel import FewPixel, painted
from securegan.attacks.surfaces import Assessment, LabelSurface, Objective
from securegan.attacks.threat import Radii


class Numbers(Streams):
    """Streams of ``n`` examples without a task."""

    def __init__(self, n: int) -> None:
        self.sources = [torch.Generator().manual_seed(place) for place in range(n)]
        self.device = torch.device("cpu")


class Linear(LabelSurface):
    """A decision that never falls, with a smooth linear margin; keeps the highest it gave to each of its inputs."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__(nn.Identity(), (), "ab")
        self.weight = weight

    def assess(self, x: Tensor, reference: Tensor, objective: Objective) -> Assessment:
        margin = (x * self.weight).flatten(1).sum(1) - 100
        return Assessment(margin, margin, torch.ones(len(x), dtype=torch.bool))


@pytest.mark.parametrize(("pixels", "share"), [(1, 0.9), (3, 0.8)])
def test_it_comes_near_the_best_pixels_there_are(pixels: int, share: float) -> None:
    """The best perturbation of k pixels of a linear margin: the k pixels that can gain most, at black or white."""
    grid = torch.linspace(0, 1, 12)
    weight = torch.stack([torch.sin(5 * grid)[:, None] * torch.cos(4 * grid), (grid[:, None] - 0.6) * grid])
    x = 0.3 + 0.2 * torch.rand(4, 2, 12, 12, generator=torch.Generator().manual_seed(0))
    surface, y = Linear(weight), torch.zeros(4, dtype=torch.int64)
    gain = torch.maximum(weight * (1 - x), -weight * x).sum(1).flatten(1).topk(pixels, dim=1).values.sum(1)
    clean = surface.assess(x, y, "margin").margin
    reached = []
    for queries in (60, 6000):
        result = FewPixel(eps=pixels, queries=queries, population=60)(surface, x, y, keys=torch.arange(4))
        assert (result.distance <= pixels).all() and result.valid.all()
        reached.append((surface.assess(result.adversarial, y, "margin").margin - clean) / gain)
    assert (reached[1] > share).all() and (reached[1] <= 1.001).all() and reached[0].mean() < reached[1].mean()


def test_children_are_of_three_distinct_members() -> None:
    """Members with the colours e_1 to e_4: a + b / 2 - c / 2, cut to [0, 1], has the values 1, 1/2, 0 and 0."""
    genes = torch.cat([torch.full((50, 4, 1, 2), 0.5), torch.eye(4).expand(50, 4, 4)[:, :, None]], -1)
    children = FewPixel(eps=1)._children(genes, Numbers(50))
    assert torch.equal(children[..., 2:].sort(-1).values, torch.tensor([0, 0, 0.5, 1]).expand(50, 4, 1, 4))
    assert len(children[..., 2:].flatten(0, 2).unique(dim=0)) == 12  # every ordered pair
    spread = torch.rand(50, 8, 1, 6, generator=torch.Generator().manual_seed(0))
    places = FewPixel(eps=1, scale=3)._children(spread, Numbers(50))[..., :2]
    assert places.min() >= 0 and places.max() <= 1 and len(places.unique()) > 780  # of 800: none stuck at an edge


def test_places_reach_every_corner_and_the_last_of_two_at_a_place_stays() -> None:
    x = torch.zeros(2, 3, 5, 7)
    genes = torch.tensor([[[0.0, 0.0, 1, 0, 0], [1.0, 1.0, 0, 1, 0]], [[0.0, 1.0, 1, 1, 1], [0.0, 0.999, 0, 0, 0.5]]])
    image = painted(x, genes)
    assert image[0, :, 0, 0].tolist() == [1, 0, 0] and image[0, :, 4, 6].tolist() == [0, 1, 0]
    assert image[1, :, 0, 6].tolist() == [0, 0, 0.5] and image.sum() == 2.5 and not x.any()


def test_the_radius_is_a_number_of_pixels(surface: LabelSurface, images: Tensor, truth: Tensor) -> None:
    assert FewPixel(Radii(linf=0.03, l2=1.0)).eps == 5 and FewPixel(eps=1).threat(surface).norm == "l0"
    assert FewPixel(eps=1).unsuited("latent", 10)
    none = FewPixel(eps=0.9, queries=50, population=10)(surface, images, truth)
    assert torch.equal(none.adversarial, images) and (none.queries == 1).all()
