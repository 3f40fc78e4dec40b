//! Values that the machine answers with.

use allocative::Allocative;
use assay_proto::driver::{AreaHit, NeedleHit};
use starlark::any::ProvidesStaticType;
use starlark::coerce::Coerce;
use starlark::environment::{Methods, MethodsBuilder};
use starlark::values::none::NoneOr;
use starlark::values::{
    Freeze, NoSerialize, StarlarkPagablePanic, StarlarkValue, Trace, Value, ValueLifetimeless, ValueLike,
    starlark_value,
};
use starlark::{starlark_complex_value, starlark_module, starlark_simple_value};
use std::fmt;

/// A needle that matched.
#[derive(Debug, Allocative, ProvidesStaticType, NoSerialize, StarlarkPagablePanic)]
pub(super) struct Match(#[allocative(skip)] NeedleHit);

impl Match {
    pub(super) fn new(hit: NeedleHit) -> Self {
        Self(hit)
    }
}

impl fmt::Display for Match {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Match({:?}, error = {})", self.0.name, self.0.error)
    }
}

starlark_simple_value!(Match);
starlark::methods_static!(MATCH_METHODS = match_methods);

#[starlark_value(type = "Match")]
impl<'v> StarlarkValue<'v> for Match {
    fn get_methods() -> Option<&'static Methods> {
        Some(MATCH_METHODS.methods())
    }
}

#[starlark_module]
fn match_methods(builder: &mut MethodsBuilder) {
    /// The needle's name.
    #[starlark(attribute)]
    fn needle(this: &Match) -> starlark::Result<String> {
        Ok(this.0.name.clone())
    }

    /// The needle's tags.
    #[starlark(attribute)]
    fn tags(this: &Match) -> starlark::Result<Vec<String>> {
        Ok(this.0.tags.clone())
    }

    /// How far it is from a perfect match: the mean of `(1 - similarity)^2` over its areas.
    #[starlark(attribute)]
    fn error(this: &Match) -> starlark::Result<f64> {
        Ok(this.0.error)
    }

    /// Where its areas were found.
    #[starlark(attribute)]
    fn areas(this: &Match) -> starlark::Result<Vec<Area>> {
        Ok(this.0.areas.iter().cloned().map(Area).collect())
    }
}

/// An area of a needle where it was found.
#[derive(Debug, Allocative, ProvidesStaticType, NoSerialize, StarlarkPagablePanic)]
pub(super) struct Area(#[allocative(skip)] AreaHit);

impl fmt::Display for Area {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let AreaHit { x, y, w, h, similarity, .. } = &self.0;
        write!(f, "Area(x = {x}, y = {y}, w = {w}, h = {h}, similarity = {similarity})")
    }
}

starlark_simple_value!(Area);
starlark::methods_static!(AREA_METHODS = area_methods);

#[starlark_value(type = "Area")]
impl<'v> StarlarkValue<'v> for Area {
    fn get_methods() -> Option<&'static Methods> {
        Some(AREA_METHODS.methods())
    }
}

#[starlark_module]
fn area_methods(builder: &mut MethodsBuilder) {
    /// Pixels from the left.
    #[starlark(attribute)]
    fn x(this: &Area) -> starlark::Result<u32> {
        Ok(this.0.x)
    }

    /// Pixels from the top.
    #[starlark(attribute)]
    fn y(this: &Area) -> starlark::Result<u32> {
        Ok(this.0.y)
    }

    /// Width in pixels.
    #[starlark(attribute)]
    fn w(this: &Area) -> starlark::Result<u32> {
        Ok(this.0.w)
    }

    /// Height in pixels.
    #[starlark(attribute)]
    fn h(this: &Area) -> starlark::Result<u32> {
        Ok(this.0.h)
    }

    /// 0 to 1.
    #[starlark(attribute)]
    fn similarity(this: &Area) -> starlark::Result<f64> {
        Ok(this.0.similarity)
    }
}

/// What `attempt` answers.
#[derive(Debug, Coerce, Trace, Freeze, Allocative, ProvidesStaticType, NoSerialize, StarlarkPagablePanic)]
#[repr(C)]
pub(super) struct AttemptGen<V: ValueLifetimeless> {
    value: V,
    /// `None` if it went well.
    error: Option<String>,
}

impl<V: ValueLifetimeless> AttemptGen<V> {
    pub(super) fn new(value: V, error: Option<String>) -> Self {
        Self { value, error }
    }
}

impl<V: ValueLifetimeless> fmt::Display for AttemptGen<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.error {
            None => write!(f, "Attempt(ok = True)"),
            Some(error) => write!(f, "Attempt(ok = False, error = {error:?})"),
        }
    }
}

starlark_complex_value!(pub(super) Attempt);
starlark::methods_static!(ATTEMPT_METHODS = attempt_methods);

#[starlark_value(type = "Attempt")]
impl<'v, V: ValueLike<'v>> StarlarkValue<'v> for AttemptGen<V>
where
    Self: ProvidesStaticType<'v>,
{
    fn get_methods() -> Option<&'static Methods> {
        Some(ATTEMPT_METHODS.methods())
    }
}

#[starlark_module]
fn attempt_methods(builder: &mut MethodsBuilder) {
    /// Did it go well?
    #[starlark(attribute)]
    fn ok<'v>(this: &Attempt<'v>) -> starlark::Result<bool> {
        Ok(this.error.is_none())
    }

    /// What the function returned; `None` if it did not go well.
    #[starlark(attribute)]
    fn value<'v>(this: &Attempt<'v>) -> starlark::Result<Value<'v>> {
        Ok(this.value)
    }

    /// What went wrong, or `None`.
    #[starlark(attribute)]
    fn error<'v>(this: &Attempt<'v>) -> starlark::Result<NoneOr<String>> {
        Ok(NoneOr::from_option(this.error.clone()))
    }
}
