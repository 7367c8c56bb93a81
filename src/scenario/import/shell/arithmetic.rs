//! Arithmetic of bash on 64-bit integers.

use brush_parser::ast::{ArithmeticExpr, ArithmeticTarget, BinaryOperator, UnaryAssignmentOperator, UnaryOperator};
use brush_parser::word::Parameter;

use super::super::ImportError;
use super::Shell;
use super::field::Field;
use super::variables::Found;

impl Shell {
    /// Returns the value of an arithmetic expression, and carries out its assignments.
    pub(super) fn number(&mut self, text: &str, line: usize) -> Result<i64, ImportError> {
        // Variables with a dollar are expanded before the expression is read.
        let text = self.text(text, line)?.known_at(line)?.to_owned();
        if text.trim().is_empty() {
            return Ok(0);
        }
        let parsed = brush_parser::arithmetic::parse(text.trim());
        let expression = parsed.map_err(|_| ImportError::at(line, format!("`{text}` is no arithmetic of integers")))?;
        self.evaluate(&expression, line)
    }

    fn evaluate(&mut self, expression: &ArithmeticExpr, line: usize) -> Result<i64, ImportError> {
        self.step(line)?;
        Ok(match expression {
            ArithmeticExpr::Literal(value) => *value,
            ArithmeticExpr::Reference(target) => self.read(target, line)?,
            ArithmeticExpr::UnaryOp(operator, operand) => {
                let value = self.evaluate(operand, line)?;
                match operator {
                    UnaryOperator::UnaryPlus => value,
                    UnaryOperator::UnaryMinus => value.wrapping_neg(),
                    UnaryOperator::BitwiseNot => !value,
                    UnaryOperator::LogicalNot => i64::from(value == 0),
                }
            }
            ArithmeticExpr::BinaryOp(operator, left, right) => {
                let left = self.evaluate(left, line)?;
                // The right side of a decided `&&` or `||` is not evaluated: it might assign.
                match (operator, left) {
                    (BinaryOperator::LogicalAnd, 0) => 0,
                    (BinaryOperator::LogicalOr, left) if left != 0 => 1,
                    _ => binary(*operator, left, self.evaluate(right, line)?, line)?,
                }
            }
            ArithmeticExpr::Conditional(condition, yes, no) => {
                let chosen = if self.evaluate(condition, line)? != 0 { yes } else { no };
                self.evaluate(chosen, line)?
            }
            ArithmeticExpr::Assignment(target, value) => {
                let value = self.evaluate(value, line)?;
                self.write(target, value, line)?
            }
            ArithmeticExpr::BinaryAssignment(operator, target, value) => {
                let old = self.read(target, line)?;
                let value = self.evaluate(value, line)?;
                let new = binary(*operator, old, value, line)?;
                self.write(target, new, line)?
            }
            ArithmeticExpr::UnaryAssignment(operator, target) => {
                let old = self.read(target, line)?;
                let new = match operator {
                    UnaryAssignmentOperator::PrefixIncrement | UnaryAssignmentOperator::PostfixIncrement => {
                        old.wrapping_add(1)
                    }
                    UnaryAssignmentOperator::PrefixDecrement | UnaryAssignmentOperator::PostfixDecrement => {
                        old.wrapping_sub(1)
                    }
                };
                self.write(target, new, line)?;
                match operator {
                    UnaryAssignmentOperator::PrefixIncrement | UnaryAssignmentOperator::PrefixDecrement => new,
                    UnaryAssignmentOperator::PostfixIncrement | UnaryAssignmentOperator::PostfixDecrement => old,
                }
            }
        })
    }

    fn read(&mut self, target: &ArithmeticTarget, line: usize) -> Result<i64, ImportError> {
        let parameter = match target {
            ArithmeticTarget::Variable(name) => Parameter::Named(name.clone()),
            ArithmeticTarget::ArrayElement(name, index) => {
                let index = self.evaluate(index, line)?.to_string();
                Parameter::NamedWithIndex { name: name.clone(), index }
            }
        };
        match self.look_up(&parameter, line)? {
            Found::One(value) => {
                let text = value.known_at(line)?.trim().to_owned();
                if text.is_empty() {
                    return Ok(0);
                }
                text.parse().map_err(|_| ImportError::at(line, format!("`{text}` is no integer")))
            }
            Found::Unset(_) | Found::Many(..) => Ok(0),
        }
    }

    fn write(&mut self, target: &ArithmeticTarget, value: i64, line: usize) -> Result<i64, ImportError> {
        let ArithmeticTarget::Variable(name) = target else {
            return Err(ImportError::at(line, "arithmetic assigns an element of an array"));
        };
        self.assign_scalar(name, Field::literal(&value.to_string()), false, line)?;
        Ok(value)
    }
}

fn binary(operator: BinaryOperator, left: i64, right: i64, line: usize) -> Result<i64, ImportError> {
    Ok(match operator {
        BinaryOperator::Power => {
            let power = u32::try_from(right).map_err(|_| ImportError::at(line, format!("the power {right}")))?;
            left.wrapping_pow(power)
        }
        BinaryOperator::Divide | BinaryOperator::Modulo if right == 0 => {
            return Err(ImportError::at(line, "it divides by zero"));
        }
        BinaryOperator::Multiply => left.wrapping_mul(right),
        BinaryOperator::Divide => left.wrapping_div(right),
        BinaryOperator::Modulo => left.wrapping_rem(right),
        BinaryOperator::Comma => right,
        BinaryOperator::Add => left.wrapping_add(right),
        BinaryOperator::Subtract => left.wrapping_sub(right),
        BinaryOperator::ShiftLeft => left.wrapping_shl(right as u32),
        BinaryOperator::ShiftRight => left.wrapping_shr(right as u32),
        BinaryOperator::LessThan => i64::from(left < right),
        BinaryOperator::LessThanOrEqualTo => i64::from(left <= right),
        BinaryOperator::GreaterThan => i64::from(left > right),
        BinaryOperator::GreaterThanOrEqualTo => i64::from(left >= right),
        BinaryOperator::Equals => i64::from(left == right),
        BinaryOperator::NotEquals => i64::from(left != right),
        BinaryOperator::BitwiseAnd => left & right,
        BinaryOperator::BitwiseXor => left ^ right,
        BinaryOperator::BitwiseOr => left | right,
        BinaryOperator::LogicalAnd => i64::from(left != 0 && right != 0),
        BinaryOperator::LogicalOr => i64::from(left != 0 || right != 0),
    })
}
