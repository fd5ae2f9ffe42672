// Outlines as the server gives them, in tenths of a pixel, as a path.
export function outlined(shapes) {
  const path = new Path2D();
  for (const shape of shapes) {
    path.moveTo(shape[0], shape[1]);
    for (let i = 2; i < shape.length; i += 2) path.lineTo(shape[i], shape[i + 1]);
    path.closePath();
  }
  return path;
}

// Returns a function that requests `draw` for the browser's next frame, once however often it is called before.
export function onNextFrame(draw) {
  let waiting = false;
  return () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      draw();
    });
  };
}
