//! Class names for figures. They are part of the wire contract and never change.

/// How well lit a picture is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lighting {
    /// Mean value above 180.
    Bright,
    /// Above 100.
    Normal,
    /// Above 50.
    Dim,
    /// 50 or less.
    Dark,
}

impl Lighting {
    /// The word on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Lighting::Bright => "bright",
            Lighting::Normal => "normal",
            Lighting::Dim => "dim",
            Lighting::Dark => "dark",
        }
    }
}

/// Lighting from the mean of max(R, G, B), 0 to 255 (see [`mean_value`](super::mean_value)).
pub fn lighting(mean_value: f64) -> Lighting {
    match mean_value {
        v if v > 180.0 => Lighting::Bright,
        v if v > 100.0 => Lighting::Normal,
        v if v > 50.0 => Lighting::Dim,
        _ => Lighting::Dark,
    }
}

/// The weather, judged only by brightness and contrast.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Weather {
    /// Standard deviation below 30 and mean below 100.
    Foggy,
    /// Otherwise, mean below 80.
    Overcast,
    /// Otherwise, standard deviation above 60.
    Clear,
    /// Everything else.
    PartlyCloudy,
}

impl Weather {
    /// The word on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Weather::Foggy => "foggy",
            Weather::Overcast => "overcast",
            Weather::Clear => "clear",
            Weather::PartlyCloudy => "partly_cloudy",
        }
    }
}

/// Weather from mean and standard deviation of luma, in 8-bit levels. The first rule that fits
/// applies.
pub fn weather(mean_luma: f64, std_luma: f64) -> Weather {
    if std_luma < 30.0 && mean_luma < 100.0 {
        Weather::Foggy
    } else if mean_luma < 80.0 {
        Weather::Overcast
    } else if std_luma > 60.0 {
        Weather::Clear
    } else {
        Weather::PartlyCloudy
    }
}

/// How full the road is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Congestion {
    /// Density of 0.6 or more.
    High,
    /// 0.3 or more.
    Medium,
    /// 0.1 or more.
    Low,
    /// Less than 0.1.
    FreeFlow,
}

impl Congestion {
    /// The word on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Congestion::High => "high",
            Congestion::Medium => "medium",
            Congestion::Low => "low",
            Congestion::FreeFlow => "free_flow",
        }
    }
}

/// Congestion from the share of foreground, 0 to 1, of a picture or a region.
pub fn congestion(density: f64) -> Congestion {
    match density {
        d if d >= 0.6 => Congestion::High,
        d if d >= 0.3 => Congestion::Medium,
        d if d >= 0.1 => Congestion::Low,
        _ => Congestion::FreeFlow,
    }
}
