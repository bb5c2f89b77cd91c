"""The load test of the old system's migration guide: only its import line changes.

test_compat.py runs it with another import, URL and number of frames, and no other change. It does
not run by itself.
"""

import asyncio
import time

import numpy as np
from its_camera_ai.data.streaming_processor import create_stream_processor


async def load_test():
    processor = await create_stream_processor(
        {
            "redis_url": "redis://localhost:6379/0",
            "input_queue": "load_test_frames",
            "output_queue": "load_test_processed",
            "enable_compression": True,
        }
    )
    began = time.time()
    for number in range(1000):
        await processor.enqueue_frame_for_processing(
            {
                "frame_id": f"load_frame_{number}",
                "camera_id": "load_camera",
                "timestamp": time.time(),
                "image_array": np.random.randint(0, 256, (640, 480, 3)).tolist(),
            }
        )
    seconds = time.time() - began
    print(f"enqueued 1000 frames in {seconds:.2f}s, {1000 / seconds:.1f} frames/second")
    stats = processor.get_processing_stats()
    health = await processor.get_queue_health()
    print(f"throughput: {stats['performance_metrics']['throughput_fps']:.1f} fps")
    print(f"compression: {stats['serialization_metrics']['avg_compression_ratio']:.3f}")
    print(f"queues: {health['status']}")
    await processor.stop()


asyncio.run(load_test())
