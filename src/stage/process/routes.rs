//! Which lane to a committer a finished frame takes.

/// The number of parallel pipelines, and of lanes from them to committers.
///
/// A pipeline is everything between a reader and a commit: a lane, a dispatcher, slots. On a single
/// server, all shards share one pipeline. In a Cluster, each shard has its own pipeline and
/// committers, so a silent node holds up only the frames of its own shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommitRoutes {
    /// Parallel pipelines; as many as shards, or one.
    pub pipelines: usize,
    /// Lanes, one to each committer.
    pub lanes: usize,
}

impl CommitRoutes {
    /// The pipeline of a shard.
    pub fn pipeline_of(self, shard: usize) -> usize {
        shard % self.pipelines
    }

    /// The lane for a frame. Frames of one camera and one shard take the same lane, which keeps
    /// their order. If a pipeline has several lanes, its cameras are distributed over them.
    pub(super) fn lane_of(self, shard: usize, camera: u64) -> usize {
        let pipeline = self.pipeline_of(shard);
        if self.lanes <= self.pipelines {
            return pipeline % self.lanes;
        }
        // Each lane number is that of its pipeline plus a multiple of the number of pipelines.
        let lanes_of_pipeline = (self.lanes - pipeline).div_ceil(self.pipelines);
        let among_them = usize::try_from(camera % lanes_of_pipeline as u64).unwrap_or(0);
        pipeline + self.pipelines * among_them
    }

    /// How many pipelines lead into a lane.
    pub fn pipelines_into(self, lane: usize) -> usize {
        if self.lanes >= self.pipelines { 1 } else { (self.pipelines - lane).div_ceil(self.lanes) }
    }

    /// Whether frames of a shard may take a lane.
    pub fn leads_to(self, shard: usize, lane: usize) -> bool {
        let pipeline = self.pipeline_of(shard);
        if self.lanes <= self.pipelines {
            pipeline % self.lanes == lane
        } else {
            lane % self.pipelines == pipeline
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_lane_is_taken_and_by_no_other_shards_than_it_says() {
        for (pipelines, lanes) in [(1, 1), (1, 4), (3, 3), (4, 3), (7, 2), (3, 4), (3, 8)] {
            let routes = CommitRoutes { pipelines, lanes };
            let mut came_from = vec![std::collections::BTreeSet::new(); lanes];
            for shard in 0..pipelines {
                for camera in 0..100 {
                    let lane = routes.lane_of(shard, camera);
                    came_from[lane].insert(routes.pipeline_of(shard));
                    assert!(routes.leads_to(shard, lane), "{routes:?}: {shard} to {lane}");
                }
                let leads = (0..lanes).filter(|lane| routes.leads_to(shard, *lane)).count();
                assert!(leads >= 1, "{routes:?}: {shard}");
            }
            for (lane, pipelines) in came_from.iter().enumerate() {
                assert_eq!(pipelines.len(), routes.pipelines_into(lane), "{routes:?}: lane {lane}");
            }
        }
    }

    #[test]
    fn shards_of_one_server_share_all_lanes_by_camera() {
        let routes = CommitRoutes { pipelines: 1, lanes: 3 };
        assert_eq!(routes.lane_of(0, 5), routes.lane_of(7, 5));
        assert_ne!(routes.lane_of(0, 5), routes.lane_of(0, 6));
    }
}
