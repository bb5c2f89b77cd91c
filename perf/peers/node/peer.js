// The engine's work without analysis, in Node: one process of a consumer group, with ioredis for
// Redis, sharp (libvips, libjpeg-turbo) for JPEG and protobufjs.
//
// The environment names the Redis socket, the streams, the group and this consumer (PEER_...). The
// process ends with its parent, or at SIGTERM.
"use strict";

const path = require("node:path");
const Redis = require("ioredis").Redis;
const protobuf = require("protobufjs");
const sharp = require("sharp");

const { PEER_SOCKET, PEER_INPUT, PEER_OUTPUT, PEER_GROUP, PEER_CONSUMER } = process.env;
const QUALITY = 85;
const BATCH = 20;
const BLOCK_MS = 200;
const OUTPUT_LENGTH = 10_000;
// There is one process per core, so processing several frames of a batch in libuv threads would
// only compete with the other processes.
sharp.concurrency(1);
sharp.cache(false);

async function processFrame(Frame, data) {
  const received = Date.now() / 1000;
  const frame = Frame.decode(data);
  const { width, height, compressedData } = frame.originalImage;
  const coded = await sharp(compressedData, { raw: { width, height, channels: 3 } })
    .jpeg({ quality: QUALITY, chromaSubsampling: "4:2:0" })
    .toBuffer();
  const processed = Date.now() / 1000;
  return {
    frame,
    data: Buffer.from(
      Frame.encode({
        frameId: frame.frameId,
        cameraId: frame.cameraId,
        timestamp: frame.timestamp,
        originalImage: {
          compressedData: coded, width, height, channels: 3,
          compressionFormat: "jpeg", quality: QUALITY,
        },
        processingStage: 5,
        validationPassed: true,
        version: "1.0",
        receivedTimestamp: received,
        processedTimestamp: processed,
        processingTimeMs: 1000 * (processed - received),
      }).finish(),
    ),
  };
}

async function main() {
  // The working directory is the repository; the script is in the folder of its packages.
  const schema = path.resolve("proto/processed_frame.proto");
  const root = await protobuf.load(schema);
  const Frame = root.lookupType("its_camera_ai.streaming.ProcessedFrame");
  const reader = new Redis(PEER_SOCKET);
  const writer = new Redis(PEER_SOCKET);
  // Signals that this process is ready, as an empty first read would not.
  await reader.xgroup("CREATECONSUMER", PEER_INPUT, PEER_GROUP, PEER_CONSUMER);
  for (;;) {
    const reply = await reader.xreadgroupBuffer(
      "GROUP", PEER_GROUP, PEER_CONSUMER, "COUNT", BATCH, "BLOCK", BLOCK_MS,
      "STREAMS", PEER_INPUT, ">",
    );
    for (const [, entries] of reply ?? []) {
      for (const [id, fields] of entries) {
        let at = 0;
        while (fields[at].toString() !== "data") at += 2;
        const { frame, data } = await processFrame(Frame, fields[at + 1]);
        await writer
          .pipeline()
          .xadd(
            PEER_OUTPUT, "MAXLEN", "~", OUTPUT_LENGTH, "*", "data", data,
            "frame_id", frame.frameId, "camera_id", frame.cameraId,
            "timestamp", String(frame.timestamp), "source_id", id.toString(),
          )
          .xack(PEER_INPUT, PEER_GROUP, id.toString())
          .exec();
      }
    }
  }
}

process.on("SIGTERM", () => process.exit(0));
main().catch((error) => {
  console.error(error);
  process.exit(1);
});
