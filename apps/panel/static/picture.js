// The picture: by WebRTC, and as JPEGs where that does not come.

import { address, answerTo } from "./server.js";

const NO_FRAMES_MS = 3000;
const GATHER_MS = 1000;
const RETRY_JPEG_MS = 2000;
const CAMERA = { width: { ideal: 1280 }, height: { ideal: 720 }, frameRate: { ideal: 30 } };
const byId = (id) => document.getElementById(id);

export class Picture {
  #video = byId("video");
  #jpeg = byId("jpeg");
  #original = byId("original");
  #handlers;
  #peer = null;
  #camera = null; // this browser's own, a MediaStream
  #lastFrame = 0;
  #isFlowing = false; // whether the server puts out frames
  way = null; // "WebRTC", "JPEG", or null while nothing is shown
  isComparing = false; // whether the original is shown here

  // handlers: {way(name), place(box in the stage), error(text), camera(whether this one is used),
  // compared()}
  constructor(handlers) {
    this.#handlers = handlers;
    const onFrame = () => {
      this.#lastFrame = performance.now();
      if (this.#peer && this.way !== "WebRTC") this.#show("WebRTC");
      this.#video.requestVideoFrameCallback?.(onFrame);
    };
    this.#video.requestVideoFrameCallback?.(onFrame);
    this.#video.addEventListener("timeupdate", onFrame, { passive: true });
    this.#video.addEventListener("resize", () => this.#place());
    this.#jpeg.addEventListener("load", () => this.#show("JPEG"));
    this.#jpeg.addEventListener("error", () => this.#retryJpeg());
    this.#original.addEventListener("load", () => {
      if (this.#original.getAttribute("src")) this.#showOriginal(true);
    });
    new ResizeObserver(() => this.#place()).observe(byId("stage"));
    document.addEventListener("visibilitychange", () => {
      this.#lastFrame = performance.now(); // none are told while nobody looks
    });
    setInterval(() => this.#check(), 500);
  }

  // Shows the picture again, as after the server came back.
  async start() {
    this.stop();
    this.#lastFrame = performance.now();
    try {
      await this.#connect();
    } catch (error) {
      if (this.#camera) this.#endCamera(error.message);
      this.#useJpeg();
    }
  }

  stop() {
    this.#peer?.close();
    this.#peer = null;
    this.#video.srcObject = null;
    this.#jpeg.removeAttribute("src");
    this.#jpeg.hidden = true;
    this.#show(null);
  }

  // stats: the server's; JPEGs help only where it has frames.
  watch(stats) {
    const isFlowing = stats.output_fps > 0.5;
    if (isFlowing && !this.#isFlowing) this.#lastFrame = performance.now();
    this.#isFlowing = isFlowing;
  }

  // Shows the original here, and only here, until it is called with false.
  compare(isOn) {
    if (isOn === Boolean(this.#original.getAttribute("src"))) return;
    if (isOn) this.#original.src = address("/stream.mjpg", { view: "original", at: Date.now() });
    else {
      this.#original.removeAttribute("src");
      this.#showOriginal(false);
    }
  }

  get hasCamera() {
    return this.#camera !== null;
  }

  // Makes this browser's camera the one that is edited, or releases it.
  async useCamera(isOn) {
    if (!isOn) this.#endCamera();
    else if (!navigator.mediaDevices?.getUserMedia) {
      this.#handlers.error("This browser allows its camera only on pages of this computer, or with https");
      return;
    } else {
      try {
        this.#camera = await navigator.mediaDevices.getUserMedia({ video: CAMERA, audio: false });
      } catch (error) {
        this.#handlers.error(`The browser's camera cannot be used: ${error.message || error.name}. Allow it in the address bar, or close the program that uses it`);
        return;
      }
      this.#camera.getVideoTracks()[0].addEventListener("ended", () => {
        this.#endCamera("The browser's camera has ended");
        this.start();
      });
      this.#handlers.camera(true);
    }
    await this.start();
  }

  #endCamera(reason = null) {
    for (const track of this.#camera?.getTracks() ?? []) track.stop();
    this.#camera = null;
    this.#handlers.camera(false);
    if (reason) this.#handlers.error(reason);
  }

  async #connect() {
    if (!window.RTCPeerConnection) throw new Error("This browser has no WebRTC");
    const peer = new RTCPeerConnection({ iceServers: [] });
    this.#peer = peer;
    const track = this.#camera?.getVideoTracks()[0];
    peer.addTransceiver(track ?? "video", { direction: track ? "sendrecv" : "recvonly" });
    peer.addEventListener("track", (event) => {
      this.#video.srcObject = new MediaStream([event.track]);
      if ("jitterBufferTarget" in event.receiver) event.receiver.jitterBufferTarget = 0;
    });
    peer.addEventListener("connectionstatechange", () => {
      if (peer === this.#peer && peer.connectionState === "failed") this.#useJpeg();
    });
    await peer.setLocalDescription(await peer.createOffer());
    await gathered(peer);
    if (peer !== this.#peer) return;
    const answer = await answerTo(peer.localDescription, Boolean(track));
    if (peer === this.#peer) await peer.setRemoteDescription(answer);
  }

  #check() {
    if (!this.#peer || !this.#isFlowing || document.hidden) return;
    if (performance.now() - this.#lastFrame > NO_FRAMES_MS) this.#useJpeg();
  }

  #useJpeg() {
    if (this.#camera) this.#endCamera("The browser's camera does not reach the server");
    this.#peer?.close();
    this.#peer = null;
    this.#video.srcObject = null;
    this.#jpeg.src = address("/stream.mjpg", { view: "edited", at: Date.now() });
  }

  #retryJpeg() {
    if (!this.#jpeg.getAttribute("src")) return;
    this.#show(null);
    setTimeout(() => {
      if (!this.#peer && this.#jpeg.getAttribute("src")) this.#useJpeg();
    }, RETRY_JPEG_MS);
  }

  #show(way) {
    if (way === this.way && way !== "JPEG") return;
    this.#video.hidden = way !== "WebRTC";
    this.#jpeg.hidden = way !== "JPEG";
    byId("empty").hidden = way !== null;
    const isNew = way !== this.way;
    this.way = way;
    if (isNew) this.#handlers.way(way);
    this.#place();
  }

  #showOriginal(isShown) {
    this.isComparing = isShown;
    this.#original.hidden = !isShown;
    this.#handlers.compared();
  }

  // Tells where the picture lies in the stage; the stage takes the picture's shape.
  #place() {
    const stage = byId("stage");
    const shown = this.way === "JPEG" ? this.#jpeg : this.#video;
    const width = shown.videoWidth || shown.naturalWidth;
    const height = shown.videoHeight || shown.naturalHeight;
    if (!width || !height) return;
    stage.style.aspectRatio = `${width} / ${height}`;
    const scale = Math.min(stage.clientWidth / width, stage.clientHeight / height);
    const size = { width: width * scale, height: height * scale };
    this.#handlers.place({
      left: (stage.clientWidth - size.width) / 2, top: (stage.clientHeight - size.height) / 2, ...size,
    });
  }
}

// Resolves when the peer knows its own addresses, or it takes too long.
function gathered(peer) {
  if (peer.iceGatheringState === "complete") return Promise.resolve();
  return new Promise((resolve) => {
    setTimeout(resolve, GATHER_MS);
    peer.addEventListener("icegatheringstatechange", () => {
      if (peer.iceGatheringState === "complete") resolve();
    });
  });
}
