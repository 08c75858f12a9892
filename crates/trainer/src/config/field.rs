//! How a row of the table reads and writes its typed field.

use balgrad::Value;

/// A typed setting.
pub(crate) trait Field {
    /// The value as a file would hold it.
    fn get(&self) -> Value;

    /// Takes a value over.
    ///
    /// # Errors
    /// What was expected, if the value is of another type; the field is then as it was.
    fn set(&mut self, value: &Value) -> Result<(), String>;
}

impl Field for bool {
    fn get(&self) -> Value {
        Value::Flag(*self)
    }

    fn set(&mut self, value: &Value) -> Result<(), String> {
        let Value::Flag(flag) = value else { return Err("true or false".to_owned()) };
        *self = *flag;
        Ok(())
    }
}

impl Field for f64 {
    fn get(&self) -> Value {
        Value::Number(*self)
    }

    fn set(&mut self, value: &Value) -> Result<(), String> {
        *self = match value {
            Value::Number(number) => *number,
            Value::Count(count) => *count as Self,
            _ => return Err("a number".to_owned()),
        };
        Ok(())
    }
}

impl Field for u64 {
    fn get(&self) -> Value {
        Value::Count(*self)
    }

    fn set(&mut self, value: &Value) -> Result<(), String> {
        let Value::Count(count) = value else { return Err("a whole number".to_owned()) };
        *self = *count;
        Ok(())
    }
}

/// Whole numbers that are smaller than 64 bits, or may be.
macro_rules! small_counts {
    ($($count:ty),+) => {$(
        impl Field for $count {
            fn get(&self) -> Value {
                Value::Count(*self as u64)
            }

            fn set(&mut self, value: &Value) -> Result<(), String> {
                let Value::Count(count) = value else { return Err("a whole number".to_owned()) };
                *self = Self::try_from(*count).map_err(|_| format!("a whole number up to {}", Self::MAX))?;
                Ok(())
            }
        }
    )+};
}

small_counts!(u8, usize);

impl Field for String {
    fn get(&self) -> Value {
        Value::Word(self.clone())
    }

    fn set(&mut self, value: &Value) -> Result<(), String> {
        *self = value.to_string();
        Ok(())
    }
}

/// A name, or `auto` for none.
impl Field for Option<String> {
    fn get(&self) -> Value {
        Value::Word(self.as_deref().unwrap_or("auto").to_owned())
    }

    fn set(&mut self, value: &Value) -> Result<(), String> {
        *self = Some(value.to_string()).filter(|name| name != "auto");
        Ok(())
    }
}
