//! Appearance of a vehicle: a few shaded faces, glass, wheels, lights and a shadow.

use super::canvas::{Canvas, Quad};
use super::lens::Lens;
use super::light::Light;
use crate::camera::random::Random;

/// Size and shape of a kind of vehicle, in metres; lengths are measured from its front.
#[derive(Clone, Copy, Debug)]
pub(super) struct VehicleKind {
    pub(super) width: f32,
    pub(super) length: f32,
    /// Height of the body.
    body: f32,
    /// The cabin above the body: its height above the road, and where along the vehicle it begins
    /// and ends.
    cabin: Option<(f32, f32, f32)>,
    /// Lower and upper height of a window band around the body.
    windows: Option<(f32, f32)>,
}

const fn car(width: f32, length: f32, body: f32, cabin: (f32, f32, f32)) -> VehicleKind {
    VehicleKind { width, length, body, cabin: Some(cabin), windows: None }
}

/// The kinds of vehicle, each with its frequency in per cent.
const KINDS: [(usize, VehicleKind); 6] = [
    (38, car(1.80, 4.4, 0.85, (1.45, 1.1, 3.9))),
    (24, car(1.85, 4.6, 1.00, (1.70, 1.1, 4.5))),
    (14, car(1.70, 3.8, 0.85, (1.50, 0.8, 3.7))),
    (11, car(2.00, 5.4, 1.20, (2.20, 0.7, 5.4))),
    (9, VehicleKind { width: 2.5, length: 9.5, body: 3.4, cabin: None, windows: None }),
    (
        4,
        VehicleKind { width: 2.5, length: 11.5, body: 3.1, cabin: None, windows: Some((1.4, 2.5)) },
    ),
];

/// Typical paint colours; the common ones are listed more than once.
const PAINTS: [[f32; 3]; 14] = [
    [225.0, 225.0, 222.0],
    [232.0, 232.0, 230.0],
    [178.0, 181.0, 184.0],
    [160.0, 163.0, 168.0],
    [98.0, 101.0, 106.0],
    [74.0, 76.0, 80.0],
    [38.0, 39.0, 42.0],
    [30.0, 31.0, 33.0],
    [38.0, 58.0, 112.0],
    [60.0, 96.0, 150.0],
    [148.0, 30.0, 32.0],
    [112.0, 28.0, 34.0],
    [44.0, 82.0, 62.0],
    [196.0, 148.0, 52.0],
];

/// A random kind and paint.
pub(super) fn draw_lot(random: &mut Random) -> (VehicleKind, [f32; 3]) {
    let mut lot = random.below(100);
    let mut drawn = KINDS[0].1;
    for (often, kind) in KINDS {
        drawn = kind;
        if lot < often {
            break;
        }
        lot -= often;
    }
    (drawn, PAINTS[random.below(PAINTS.len())])
}

/// A vehicle at its place on the road.
pub(super) struct PlacedVehicle {
    pub(super) kind: VehicleKind,
    pub(super) paint: [f32; 3],
    /// Position of its middle, in metres to the right of the middle of the road.
    pub(super) x: f32,
    /// Distance of its nearer end, in metres ahead of the camera.
    pub(super) near: f32,
    /// Whether that end is its front.
    pub(super) oncoming: bool,
}

/// Minimum distance at which a vehicle's nearer end is painted, in metres; closer points are below
/// the picture.
const NEAREST: f32 = 3.0;

impl PlacedVehicle {
    /// Paints shadow, body and lights.
    pub(super) fn paint(&self, canvas: &mut Canvas<'_>, lens: &Lens, light: Light) {
        self.paint_shadow(canvas, lens, light);
        let kind = self.kind;
        let (left, right) = (self.x - kind.width / 2.0, self.x + kind.width / 2.0);
        let ends = (0.0, kind.length);
        let dark = [26.0, 26.0, 28.0];
        // Wheels and underside, then the body above them.
        self.solid(canvas, lens, light, (left + 0.06, right - 0.06), ends, (0.0, 0.35), dark);
        self.solid(canvas, lens, light, (left, right), ends, (0.28, kind.body), self.paint);
        if let Some((top, from, to)) = kind.cabin {
            self.paint_cabin(canvas, lens, light, (top, from, to));
        } else {
            let glass = kind.windows.unwrap_or((1.3, 2.4));
            let reach = if kind.windows.is_some() { ends } else { (0.3, 1.6) };
            self.side(canvas, lens, light, reach, glass, GLASS, GLASS);
            if self.oncoming || kind.windows.is_some() {
                let (from, to) = (left + 0.12, right - 0.12);
                let quad = self.upright(lens, (from, to), glass, 0.0);
                canvas.body(&quad, light.on(SKY_IN_GLASS), light.on(GLASS));
            }
        }
        self.paint_end(canvas, lens, light);
    }

    /// A box: its side, its top and its nearer end.
    #[expect(
        clippy::too_many_arguments,
        reason = "three extents of a box, and where it is painted"
    )]
    fn solid(
        &self,
        canvas: &mut Canvas<'_>,
        lens: &Lens,
        light: Light,
        across: (f32, f32),
        along: (f32, f32),
        up: (f32, f32),
        colour: [f32; 3],
    ) {
        self.side(canvas, lens, light, along, up, shade(colour, 0.80), shade(colour, 0.55));
        let quad = self.level(lens, across, along, up.1);
        canvas.body(&quad, light.on(shade(colour, 1.08)), light.on(colour));
        let quad = self.upright(lens, across, up, 0.0);
        canvas.body(&quad, light.on(shade(colour, 0.88)), light.on(shade(colour, 0.62)));
    }

    fn paint_cabin(
        &self,
        canvas: &mut Canvas<'_>,
        lens: &Lens,
        light: Light,
        (top, from, to): (f32, f32, f32),
    ) {
        let body = self.kind.body;
        let half = self.kind.width / 2.0;
        let (foot, roof) = (half - 0.06, half - 0.22);
        // The windscreen leans back more than the rear window.
        let (roof_from, roof_to) = (from + 0.55, to - 0.3);
        let corner = |aside: f32, up: f32, along: f32| self.point(lens, self.x + aside, up, along);
        let away = if self.x > lens.aside { -1.0 } else { 1.0 };
        let side = [
            corner(away * foot, body, from),
            corner(away * roof, top, roof_from),
            corner(away * roof, top, roof_to),
            corner(away * foot, body, to),
        ];
        canvas.body(&side, light.on(shade(GLASS, 1.3)), light.on(GLASS));
        let across = (self.x - roof, self.x + roof);
        let quad = self.level(lens, across, (roof_from, roof_to), top);
        canvas.body(&quad, light.on(shade(self.paint, 1.1)), light.on(shade(self.paint, 1.02)));
        let (low, high) = if self.oncoming { (from, roof_from) } else { (to, roof_to) };
        let screen = [
            corner(-foot, body, low),
            corner(-roof, top, high),
            corner(roof, top, high),
            corner(foot, body, low),
        ];
        canvas.body(&screen, light.on(SKY_IN_GLASS), light.on(GLASS));
    }

    /// Paints the plate and lights of the nearer end; at night the lights glow.
    fn paint_end(&self, canvas: &mut Canvas<'_>, lens: &Lens, light: Light) {
        let near = self.near;
        if near < NEAREST {
            return;
        }
        let plate = self.upright(lens, (self.x - 0.26, self.x + 0.26), (0.45, 0.58), 0.0);
        canvas.body(&plate, light.on([215.0; 3]), light.on([200.0; 3]));
        let edge = self.kind.width / 2.0 - 0.08;
        let on = f32::from(light.lamps) / 256.0;
        let (lamp, beam) = if self.oncoming {
            (HEADLIGHT, [230.0, 225.0, 205.0])
        } else {
            (TAIL_LIGHT, [150.0, 22.0, 16.0])
        };
        let lit = light.on(lamp);
        let lit = [0, 1, 2].map(|i| lit[i].saturating_add((on * 0.9 * lamp[i]) as u8));
        for side in [-1.0, 1.0] {
            let (outer, inner) = (self.x + side * edge, self.x + side * (edge - 0.34));
            let quad = self.upright(lens, (outer.min(inner), outer.max(inner)), (0.58, 0.76), 0.0);
            canvas.body(&quad, lit, lit);
            if on > 0.0 {
                let middle = lens.project((outer + inner) / 2.0, 0.66, near);
                let half = if self.oncoming { 0.75 } else { 0.4 } * lens.scale(near) + 1.0;
                canvas.glow(middle, (half, half), beam.map(|value| value * on));
            }
        }
        if on > 0.0 && self.oncoming {
            let pool = near - 5.0;
            if pool > NEAREST {
                let (middle, edge) =
                    (lens.project(self.x, 0.0, pool), lens.project(0.0, 0.0, near));
                let half = (2.2 * lens.scale(pool), (middle.1 - edge.1).max(1.0));
                canvas.glow(middle, half, [70.0 * on, 66.0 * on, 54.0 * on]);
            }
        }
    }

    /// Paints the shadow: dark and extended to the right in sunlight, faint and close at night.
    fn paint_shadow(&self, canvas: &mut Canvas<'_>, lens: &Lens, light: Light) {
        let day = 1.0 - light.darkness();
        let half = self.kind.width / 2.0;
        let reach = 0.15 + 0.6 * day * self.kind.cabin.map_or(self.kind.body, |cabin| cabin.0);
        let across = (self.x - half - 0.1, self.x + half + reach);
        let quad = self.level(lens, across, (-0.25, self.kind.length + 0.2), 0.0);
        canvas.shadow(&quad, (200.0 - 95.0 * day) as u16);
    }

    /// Paints the side that faces the camera.
    #[expect(clippy::too_many_arguments, reason = "two extents, two colours, and where to paint")]
    fn side(
        &self,
        canvas: &mut Canvas<'_>,
        lens: &Lens,
        light: Light,
        along: (f32, f32),
        up: (f32, f32),
        upper: [f32; 3],
        lower: [f32; 3],
    ) {
        let half = self.kind.width / 2.0;
        let x = if self.x > lens.aside { self.x - half } else { self.x + half };
        let quad = [
            self.point(lens, x, up.0, along.0),
            self.point(lens, x, up.1, along.0),
            self.point(lens, x, up.1, along.1),
            self.point(lens, x, up.0, along.1),
        ];
        canvas.body(&quad, light.on(upper), light.on(lower));
    }

    /// A horizontal face at height `up`.
    fn level(&self, lens: &Lens, across: (f32, f32), along: (f32, f32), up: f32) -> Quad {
        [
            self.point(lens, across.0, up, along.0),
            self.point(lens, across.1, up, along.0),
            self.point(lens, across.1, up, along.1),
            self.point(lens, across.0, up, along.1),
        ]
    }

    /// A face across the nearer end, or `back` metres behind it.
    fn upright(&self, lens: &Lens, across: (f32, f32), up: (f32, f32), back: f32) -> Quad {
        let ahead = (self.near + back).max(NEAREST);
        [(across.0, up.0), (across.0, up.1), (across.1, up.1), (across.1, up.0)]
            .map(|(x, up)| lens.project(x, up, ahead))
    }

    /// A point `along` metres behind the front of the vehicle.
    fn point(&self, lens: &Lens, x: f32, up: f32, along: f32) -> (f32, f32) {
        let back = if self.oncoming { along } else { self.kind.length - along };
        lens.project(x, up, (self.near + back).max(NEAREST))
    }
}

const GLASS: [f32; 3] = [34.0, 38.0, 44.0];
const SKY_IN_GLASS: [f32; 3] = [92.0, 104.0, 116.0];
const HEADLIGHT: [f32; 3] = [226.0, 226.0, 220.0];
const TAIL_LIGHT: [f32; 3] = [170.0, 26.0, 24.0];

fn shade(colour: [f32; 3], share: f32) -> [f32; 3] {
    colour.map(|value| value * share)
}
