"""Posts of the simulator as the graph meets them: a request, a profile, a picture's quality.

What is known of a creator and how good a picture is, the simulator says; so a real profile store
and a real image model are the only parts of the graph that need not be there.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from bench.stand_ins import null_models
from fomofeed.clip.v1 import clip_service_pb2 as clip_pb
from fomofeed.gateway.v1 import orchestrator_service_pb2 as pb
from fomofeed.profile.v1 import profile_service_pb2 as profile_pb
from services.ranker.learn import CONFIDENCE_POINTS
from simulation.audience import Family
from simulation.feed import PostWorld, draw_feed, draw_world
from simulation.history import Histories, draw_histories

Array = NDArray[np.float64]

SEED = 20261121
HISTORY_POSTS = (0, 10, 40, 160)  # of a creator, by turns
FATES = 64  # draws of what nothing shows of a post beforehand
POPULATION = (2500, 20)  # creators, and posts of each, among whom a post has its percentile


@dataclass(frozen=True, slots=True)
class SimulatedPosts:
    """Posts, one of each creator, with what its profile holds."""

    world: PostWorld
    histories: Histories
    reference: Array  # sorted true rates of the population's posts

    def profile(self, index: int) -> profile_pb.GetUserProfileResponse:
        """What the profile service would tell of the author of post `index`."""
        feed = self.world.feed
        return profile_pb.GetUserProfileResponse(
            user=profile_pb.UserProfile(
                user_id=index + 1,
                user_name="Ana",
                time_zone="UTC",
                follower_count=int(feed.follower_count[index]),
                avg_engagement=float(feed.avg_engagement[index]),
                posts_by_hour=self.histories.posts[index],
                engagements_by_hour=self.histories.engagements[index],
            )
        )

    def image(self, index: int) -> clip_pb.AnalyzeImageResponse:
        """What an image model that sees the true quality would tell of the picture."""
        quality = float(self.world.feed.quality_score[index])
        return clip_pb.AnalyzeImageResponse(quality_score=quality, model=null_models.MODEL)

    def request(self, index: int) -> pb.OrchestrateRequest:
        feed = self.world.feed
        return pb.OrchestrateRequest(
            user_id=index + 1,
            media=b"picture",
            content_type="moment" if feed.is_moment[index] else "post",
            has_video=bool(feed.has_video[index]),
            caption="x" * min(2000, int(feed.caption_length[index])),
            tags=["tag"] * min(64, int(feed.tag_count[index])),
        )

    def chance_of_right(self, scores: Array, hours: NDArray[np.int64]) -> Array:
        """The share of fates in which each score, 0 to 100, is right for a post at its hour.

        It is right when the post's true percentile in the population is near enough.
        """
        rng = np.random.default_rng([SEED, 1])
        right = np.zeros(len(scores))
        for _ in range(FATES):
            rates = self.world.draw_rates(rng, hours).sum(axis=1)
            true = 100.0 * np.searchsorted(self.reference, rates) / len(self.reference)
            right += np.abs(scores - true) <= CONFIDENCE_POINTS
        return right / FATES


def draw_posts(seed: int, count: int, family: Family = Family.A) -> SimulatedPosts:
    """Draws creators with histories of different lengths; the population is that of training."""
    rng = np.random.default_rng([SEED, 2, seed])
    world = draw_world(rng, count, 1, family)
    lengths = np.arange(count) % len(HISTORY_POSTS)
    drawn = [draw_histories(rng, world.curves, posts) for posts in HISTORY_POSTS]
    posts = np.stack([h.posts for h in drawn])[lengths, np.arange(count)]
    engagements = np.stack([h.engagements for h in drawn])[lengths, np.arange(count)]
    return SimulatedPosts(world, Histories(posts, engagements), _reference(family))


@cache
def _reference(family: Family) -> Array:
    population = draw_feed(np.random.default_rng([SEED, 0]), *POPULATION, family)
    return np.sort(population.true_rates.sum(axis=1))
