//! Which lane to a committer a finished frame takes.

/// How many ways frames go side by side, and how many lanes lead on from them.
///
/// A way is all that is between a reader and a commit: a lane, a dispatcher, slots. There is one,
/// shared by all shards, where one server has them all. The shards of a Cluster have one each, and
/// committers of their own: what a silent node holds up is then the frames of its own shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Routes {
    /// Ways side by side; as many as shards, or one.
    pub ways: usize,
    /// Lanes, one to each committer.
    pub lanes: usize,
}

impl Routes {
    /// The way of a shard.
    pub fn way_of(self, shard: usize) -> usize {
        shard % self.ways
    }

    /// The lane for a frame. Frames of one camera and one shard take one lane, so their order
    /// holds to the end; where a way has several lanes, cameras share them out.
    pub(super) fn lane_of(self, shard: usize, camera: u64) -> usize {
        let way = self.way_of(shard);
        if self.lanes <= self.ways {
            return way % self.lanes;
        }
        // Lanes way, way + ways, way + 2 * ways and so on.
        let lanes_of_way = (self.lanes - way).div_ceil(self.ways);
        let among_them = usize::try_from(camera % lanes_of_way as u64).unwrap_or(0);
        way + self.ways * among_them
    }

    /// How many ways lead into a lane.
    pub fn ways_into(self, lane: usize) -> usize {
        if self.lanes >= self.ways { 1 } else { (self.ways - lane).div_ceil(self.lanes) }
    }

    /// Whether frames of a shard may take a lane.
    pub fn leads_to(self, shard: usize, lane: usize) -> bool {
        let way = self.way_of(shard);
        if self.lanes <= self.ways { way % self.lanes == lane } else { lane % self.ways == way }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_lane_is_taken_and_by_no_other_shards_than_it_says() {
        for (ways, lanes) in [(1, 1), (1, 4), (3, 3), (4, 3), (7, 2), (3, 4), (3, 8)] {
            let routes = Routes { ways, lanes };
            let mut came_from = vec![std::collections::BTreeSet::new(); lanes];
            for shard in 0..ways {
                for camera in 0..100 {
                    let lane = routes.lane_of(shard, camera);
                    came_from[lane].insert(routes.way_of(shard));
                    assert!(routes.leads_to(shard, lane), "{routes:?}: {shard} to {lane}");
                }
                let leads = (0..lanes).filter(|lane| routes.leads_to(shard, *lane)).count();
                assert!(leads >= 1, "{routes:?}: {shard}");
            }
            for (lane, ways) in came_from.iter().enumerate() {
                assert_eq!(ways.len(), routes.ways_into(lane), "{routes:?}: lane {lane}");
            }
        }
    }

    #[test]
    fn shards_of_one_server_share_all_lanes_by_camera() {
        let routes = Routes { ways: 1, lanes: 3 };
        assert_eq!(routes.lane_of(0, 5), routes.lane_of(7, 5));
        assert_ne!(routes.lane_of(0, 5), routes.lane_of(0, 6));
    }
}
