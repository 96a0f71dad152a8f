import assert from "node:assert/strict";
import { PassThrough } from "node:stream";
import { test } from "node:test";
import { BodyReader, Broken, Source } from "../../src/slowpath/source.ts";
import { Upload } from "../../src/slowpath/upload.ts";

/** The body of a request on its way to tries and copies; `most`: bytes that are kept for another try. */
function uploading(length: number, most?: number) {
  const stream = new PassThrough();
  const reader = new BodyReader(new Source(stream), { kind: "length", length }, 400);
  let abandoned = 0;
  const upload = new Upload(reader, most, () => {
    abandoned++;
  });
  return { upload, send: (text: string) => stream.write(text), abandoned: () => abandoned };
}

const text = (piece: Buffer | undefined) => piece?.toString("latin1");

test("a body within its bound can be had from its beginning", async () => {
  const { upload, send, abandoned } = uploading(4, 4);
  send("ab");
  assert.equal(text(await upload.piece(0)), "ab");
  upload.release(0);
  send("cd");
  assert.equal(text(await upload.piece(1)), "cd");
  upload.release(1);
  assert.deepEqual([upload.kept, upload.whole, abandoned()], [true, true, 0]);
  upload.rewind();
  assert.deepEqual([text(await upload.piece(0)), text(await upload.piece(1))], ["ab", "cd"]);
});

test("one that outgrows it is abandoned when that has come, sent or not, and loses what has been sent", async () => {
  const { upload, send, abandoned } = uploading(6, 3);
  send("abcd");
  assert.equal(text(await upload.piece(0)), "abcd");
  assert.deepEqual([upload.kept, abandoned()], [true, 1]);
  upload.release(0);
  assert.equal(upload.kept, false);
  send("ef");
  assert.equal(text(await upload.piece(1)), "ef");
  assert.equal(abandoned(), 1);
  await assert.rejects(upload.piece(0), Broken);
});

test("copies get all of it, at their own pace, and who is far behind is waited for", async () => {
  const half = "x".repeat(3 << 19);
  const { upload, send } = uploading(2 * half.length);
  const place = upload.join();
  let copied = 0;
  let sent = 0;
  const take = async () => {
    for (let at = 0; ; at++) {
      const piece = await upload.piece(at);
      if (piece === undefined) return;
      sent += piece.length;
      upload.release(at);
    }
  };
  const taking = take();
  send(half);
  setImmediate(() => send(half));
  await new Promise((resolve) => setTimeout(resolve, 50));
  assert.ok(sent < 2 * half.length, `${sent} bytes were sent, and none copied`);
  for (let piece = await upload.next(place); piece; piece = await upload.next(place)) copied += piece.length;
  await taking;
  assert.deepEqual([sent, copied], [2 * half.length, 2 * half.length]);
});

test("a copy ends with a request that is over, unless all of it has come", async () => {
  const partial = uploading(4);
  const place = partial.upload.join();
  partial.send("ab");
  await partial.upload.piece(0);
  assert.equal(text(await partial.upload.next(place)), "ab");
  const rest = partial.upload.next(place);
  partial.upload.end();
  await assert.rejects(rest, Broken);

  const whole = uploading(2);
  const other = whole.upload.join();
  whole.send("ab");
  await whole.upload.piece(0);
  whole.upload.end();
  assert.deepEqual([text(await whole.upload.next(other)), await whole.upload.next(other)], ["ab", undefined]);
});
